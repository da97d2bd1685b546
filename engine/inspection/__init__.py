"""What would be read of a file of rows, or of a model: told before anything is stored, scored or trained."""
