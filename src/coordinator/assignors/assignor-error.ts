/**
 * An assignor has failed: it threw, or what it returned is not a complete assignment. Its message is one sentence that
 * names the partition and the member, for whoever asked for the assignor and whoever wrote it. Nothing has changed.
 */
export class AssignorError extends Error {
  override readonly name = 'AssignorError';
}
