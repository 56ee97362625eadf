/**
 * When which topic is looked at. A topic is due when something about it has changed, when time
 * alone may let something of it go, or when it has not been looked at for long. Pure: times of one
 * clock go in, topics come out.
 *
 * Between two looks at a topic lies at least twenty times as long as a look took, so that the facts
 * of a topic with a million cursors do not keep the database busy.
 */

/** The shortest time between two looks at a topic. */
const restMsMin = 15_000;
const restsPerLook = 20;
/** A topic with sealed segments is looked at so often if nothing happens. */
const unseenMsMax = 600_000;

interface TopicLook {
  /** Since when something has changed; null if nothing has. */
  changedMs: number | null;
  /** When time alone may let something go. */
  timeMs: number;
  /** Not looked at before. */
  restUntilMs: number;
  seenMs: number;
  hasSealed: boolean;
  isUnderWay: boolean;
}

interface EndedLook {
  readonly tookMs: number;
  readonly nowMs: number;
  /** When time alone may let something go. */
  readonly dueInMs: number;
  readonly hasSealed: boolean;
}

export class TopicLooks {
  readonly #topics = new Map<number, TopicLook>();

  /** A topic that was loaded or created. One with sealed segments is due at once. */
  add(topicId: number, hasSealed: boolean, nowMs: number): void {
    this.#topics.set(topicId, {
      changedMs: hasSealed ? nowMs : null,
      timeMs: Infinity,
      restUntilMs: -Infinity,
      seenMs: nowMs,
      hasSealed,
      isUnderWay: false,
    });
  }

  remove(topicId: number): void {
    this.#topics.delete(topicId);
  }

  has(topicId: number): boolean {
    return this.#topics.has(topicId);
  }

  /** Records, cursors, claims, settings or segments of the topic have changed. */
  changed(topicId: number, nowMs: number): void {
    const look = this.#topics.get(topicId);
    if (look !== undefined) look.changedMs ??= nowMs;
  }

  /** Makes the topic due without a rest. */
  soon(topicId: number, nowMs: number): void {
    const look = this.#topics.get(topicId);
    if (look === undefined) return;
    look.changedMs ??= nowMs;
    look.restUntilMs = -Infinity;
  }

  /**
   * The topics to look at now, the longest due first. Of those that are due only because they were
   * not seen for long there is at most one, so that 10,000 idle topics let the database rest.
   */
  due(nowMs: number): number[] {
    const due: { topicId: number; sinceMs: number }[] = [];
    let unseen: { topicId: number; seenMs: number } | null = null;
    for (const [topicId, look] of this.#topics) {
      if (look.isUnderWay || look.restUntilMs > nowMs) continue;
      const sinceMs = Math.min(look.changedMs ?? Infinity, look.timeMs);
      if (sinceMs <= nowMs) due.push({ topicId, sinceMs });
      else if (look.hasSealed && nowMs - look.seenMs >= unseenMsMax && look.seenMs < (unseen?.seenMs ?? Infinity)) {
        unseen = { topicId, seenMs: look.seenMs };
      }
    }
    due.sort((a, b) => a.sinceMs - b.sinceMs);
    return [...due, ...(unseen === null ? [] : [unseen])].map(({ topicId }) => topicId);
  }

  /** What changes from now on makes the topic due again. */
  begin(topicId: number): void {
    const look = this.#topics.get(topicId);
    if (look === undefined) return;
    look.isUnderWay = true;
    look.changedMs = null;
  }

  /** @returns until when the topic rests. */
  ended(topicId: number, { tookMs, nowMs, dueInMs, hasSealed }: EndedLook): number {
    const restUntilMs = nowMs + Math.max(restMsMin, tookMs * restsPerLook);
    const look = this.#topics.get(topicId);
    if (look === undefined) return restUntilMs;
    look.isUnderWay = false;
    look.seenMs = nowMs;
    look.hasSealed = hasSealed;
    look.timeMs = nowMs + dueInMs;
    look.restUntilMs = restUntilMs;
    return restUntilMs;
  }

  /** The look failed, and is repeated after a rest. */
  failed(topicId: number, nowMs: number): void {
    const look = this.#topics.get(topicId);
    if (look === undefined) return;
    look.isUnderWay = false;
    look.changedMs ??= nowMs;
    look.restUntilMs = nowMs + restMsMin;
  }
}
