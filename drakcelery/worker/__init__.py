"""What a worker does besides the stages: it lets messages in, keeps slots clean, starts and stops."""
