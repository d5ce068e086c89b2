"""What operators see and say: metrics, remote control, the Flower pages, traces."""
