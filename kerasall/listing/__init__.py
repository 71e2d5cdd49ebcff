"""What lies in the folders and stands in the tables that people bring: walked and read here alone, for data sets and predictions alike."""
