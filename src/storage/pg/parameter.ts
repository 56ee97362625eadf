/**
 * A value in PostgreSQL's binary format. It is written straight into the send buffer, without a
 * copy.
 */
export interface BinaryValue {
  readonly byteLength: number;
  /** Writes exactly `byteLength` bytes. */
  writeTo(buffer: Buffer, at: number): void;
}

/** A parameter of a prepared statement: text, a number as text, a binary value, or null. */
export type Parameter = string | number | BinaryValue | null;
