"""What is measured on the images of a collection, and what is expected of them."""
