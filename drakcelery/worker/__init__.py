"""What a vm worker does besides the stages."""
