"""AWS SQS, and servers that speak its API."""
