"""Records, pictures and texts on RabbitMQ, and the stages of a model pipeline."""
