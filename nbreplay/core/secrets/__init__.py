"""Finding secrets and replacing them."""
