"""A sample catalogue with drawn images."""
