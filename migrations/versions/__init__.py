"""One change of the tables a file, named by date and sentence."""
