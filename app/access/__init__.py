"""Access control: people, robot accounts, their credentials, the tokens they get, and the rights of each."""
