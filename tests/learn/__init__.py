"""What is learned of origins, and what follows from it."""
