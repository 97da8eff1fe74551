"""A crowd of hostile clients beside honest ones: nobody honest is refused, and the worker's memory stays flat."""
