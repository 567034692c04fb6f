"""Published results as GeoJSON, COCO and FHIR, and the Table Schemas of the CSV files."""
