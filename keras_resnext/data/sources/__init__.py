"""One module for each kind of source; ``datasets`` has the table of them."""
