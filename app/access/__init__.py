"""Who may do what: people and robots, their passwords, the tokens they get and what those allow."""
