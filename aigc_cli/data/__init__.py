"""One kind of data per file; what they share is in the files that begin with an underscore."""
