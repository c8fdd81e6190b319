"""What saved tables say, as plain values; nothing here needs matplotlib, rich or torch."""
