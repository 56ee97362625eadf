/** What a group has done with one partition. */
export class Consumption {
  /** Sent to a member, by whatever broker. */
  readonly sent = new Set<number>();
  /** Its ack was answered: it is never sent again. */
  readonly acked = new Set<number>();
  /** Named by an ack or commit of who may say so. */
  readonly named = new Set<number>();
  /** Named by an ack, whether or not it counted, in whatever incarnation. */
  readonly namedEver = new Set<number>();
  /** Named one by one, by an ack of who may say so. */
  readonly namedByRuns = new Set<number>();
  /** Refused by who may say so, and not named one by one since: in which holding. A cumulative ack of that one must not count. */
  readonly refused = new Map<number, string>();
  /** Committed by somebody outside, so that no member has to handle it. */
  readonly excused = new Set<number>();
  /** Named by a settlement of who may say so. */
  readonly settling = new Set<number>();
  /** Completed by a settlement, and therefore in the archive. */
  readonly archived = new Set<number>();
  /** Handled by a member. */
  readonly received = new Set<number>();
  /** The first offset that is owed. */
  start = 0;
  /** How often it was begun anew. */
  resets = 0;

  /** It is begun anew at the offset: what was said of it before says nothing any more, and what lies behind comes again. */
  begin(offset: number, resets: number): void {
    this.start = offset;
    this.resets = resets;
    const { sent, acked, named, namedByRuns, refused, excused, settling, archived } = this;
    for (const set of [sent, acked, named, namedByRuns, refused, excused, settling, archived]) set.clear();
    for (let below = 0; below < offset; below++) this.acked.add(below);
    for (const one of this.received) if (one >= offset) this.received.delete(one);
  }
}
