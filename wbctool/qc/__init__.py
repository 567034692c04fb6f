"""Control slides over time: history, Westgard rules, Levey-Jennings charts."""
