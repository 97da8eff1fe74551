"""The permissions that a method of the distribution API may need: an action on the path's repository, or less."""

PULL, PUSH, DELETE = "pull", "push", "delete"
CATALOGUE = "catalogue"
# Any token that this registry issued: a client asks with it whether its login works.
ANY_TOKEN = "any-token"  # noqa: S105  # a word, not a secret
