/**
 * Bytes that clients may make an edge hold: of all connections, or of one (`whole` is then that of
 * all). A connection counts in both.
 */
export class Room {
  readonly bytesMax: number;
  readonly #whole: Room | null;
  #bytes = 0;

  constructor(bytesMax: number, whole: Room | null = null) {
    this.bytesMax = bytesMax;
    this.#whole = whole;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get wholeBytesMax(): number {
    return this.#whole?.bytesMax ?? this.bytesMax;
  }

  /** False, and nothing is counted, where there is no room here or in the whole. */
  take(bytes: number): boolean {
    if (this.#bytes + bytes > this.bytesMax) return false;
    if (this.#whole !== null && !this.#whole.take(bytes)) return false;
    this.#bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
    this.#whole?.give(bytes);
  }

  /** Whether `take` would fail here, and not in the whole. */
  isShortOf(bytes: number): boolean {
    return this.#bytes + bytes > this.bytesMax;
  }
}
