"""The upstream of the tests proves itself: real clients pull from it, and it is as strict as Docker Hub."""
