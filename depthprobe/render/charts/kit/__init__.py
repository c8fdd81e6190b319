"""What figures are made of: page, style, ticks, labels."""
