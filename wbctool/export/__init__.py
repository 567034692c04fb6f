"""Published results as GeoJSON, COCO, FHIR and Table Schema."""
