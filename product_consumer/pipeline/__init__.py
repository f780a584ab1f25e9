"""What every stream needs between queue and work."""
