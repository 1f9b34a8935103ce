"""Results as files and pictures; decides nothing about them."""
