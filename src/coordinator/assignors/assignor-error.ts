/**
 * An assignor failed: it threw, or its result is not a complete assignment. The message is one
 * sentence that names the partition and the member. No assignment has changed.
 */
export class AssignorError extends Error {
  override readonly name = 'AssignorError';
}
