/**
 * The leaf in force of an identity, as a condition over `certificates c`: the newest that is pending or current, that is released,
 * not replaced, not withdrawn and not followed. Expired or not: a reader who cares compares notAfter.
 */
export const inForce = `c.state IN ('pending', 'current') AND NOT EXISTS (
  SELECT 1 FROM certificates newer
  WHERE newer.identity = c.identity AND newer.no > c.no AND newer.state IN ('pending', 'current'))`;
