/** What a subscription has consumed, in sums over its logs. Each log adds its own changes. */
export class Consumption {
  /** Acked records, of each log from its begin. */
  completedRecords = 0;
  inFlightRecords = 0;
  /** Deliveries since the start of this owner. A redelivery counts again. */
  deliveredRecords = 0;
  /** Acks since the start of this owner. A reset is none. */
  ackedRecords = 0;
  /** Records that retention has taken since the start of this owner. */
  gapRecords = 0;
}

/** A topic as one group consumes it, in numbers. */
export interface ConsumedTopic {
  readonly group: string;
  readonly topic: string;
  readonly topicId: number;
  readonly members: number;
  /** Of the subscription. */
  readonly state: string;
  readonly lagRecords: number;
  readonly inFlightRecords: number;
  readonly deliveredRecords: number;
  readonly ackedRecords: number;
  readonly gapRecords: number;
  /** The first un-acked record of each log that has one; at most `max` logs. */
  firstUnacked(max: number): UnackedRecord[];
}

interface UnackedRecord {
  readonly partition: number;
  readonly lane: number;
  readonly offset: number;
}
