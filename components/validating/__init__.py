"""What is found out about the images of a collection, and what is expected of them."""
