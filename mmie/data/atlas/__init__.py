"""Atlas: true facts about the world, told in parallel in several languages, generated from the CLDR."""
