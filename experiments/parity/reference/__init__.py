"""What Keras computes, and the recipe that both sides share."""
