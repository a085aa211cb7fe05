"""Results of Keras, and the recipe for weights and images that Keras and jaxseg share."""
