/** A value in PostgreSQL's binary format, which writes itself where it is sent from and so needs no buffer of its own. */
export interface BinaryValue {
  readonly byteLength: number;
  /** Writes `byteLength` bytes. */
  writeTo(buffer: Buffer, at: number): void;
}

/** A parameter of a prepared statement: text, a number as text, a binary value, or null. */
export type Parameter = string | number | BinaryValue | null;
