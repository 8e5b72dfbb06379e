"""What runs in the containers of engines: nothing of the operator imports it, and it imports nothing of that."""
