"""Train masks over features and test them."""
