"""What the page's tables and cards say, as plain values ready to be written."""
