"""Every image against every other: exact rates of all pairs, and the pages that show them."""
