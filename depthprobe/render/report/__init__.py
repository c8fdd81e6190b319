"""The report of one model: page, text, figures, tables and lists."""
