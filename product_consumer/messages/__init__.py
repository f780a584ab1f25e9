"""What every message body has in common."""
