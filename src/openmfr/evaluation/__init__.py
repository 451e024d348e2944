"""How good a recogniser is: protocols, error rates with intervals, and the page that shows them."""
