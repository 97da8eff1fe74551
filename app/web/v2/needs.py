"""What a method of the distribution API may need to be allowed: an action on the repository in its path, or less."""

PULL, PUSH, DELETE = "pull", "push", "delete"
CATALOGUE = "catalogue"
# A token of ours, whatever it allows: how clients find out that they have logged in.
ANY_TOKEN = "any-token"  # noqa: S105  # a word, not a secret
