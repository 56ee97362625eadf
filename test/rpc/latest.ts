/** When a deadline of Deadlines has been late, as long as the limit says at the least. */
export function latest(limitMs: number): number {
  return limitMs + limitMs / 16;
}
