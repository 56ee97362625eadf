import type { BinaryValue, Parameter } from './parameter.ts';

/**
 * The messages of PostgreSQL's extended query protocol that run prepared statements. `pg` can write
 * them too, but copies every parameter into another buffer, grows that buffer and drops it. For
 * batches, the copies cost more than the rest of an append.
 *
 * Source: https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
const code = { parse: 0x50, bind: 0x42, execute: 0x45, close: 0x43, sync: 0x53 } as const;
const statementKind = 0x53;
/** The type byte and the length, which includes its own four bytes. */
const headerBytes = 5;
const lengthBytes = 4;

/** `begin` replaces a buffer that is larger than this. */
const keptBytesMax = 1_048_576;

/** Writes messages one after the other. The bytes of `written` are valid until the next `begin`. */
export class FrontendMessages {
  #buffer = Buffer.allocUnsafe(8_192);
  #at = 0;
  #messageAt = 0;

  begin(): void {
    this.#at = 0;
    if (this.#buffer.length > keptBytesMax) this.#buffer = Buffer.allocUnsafe(8_192);
  }

  /** The messages since `begin`. */
  written(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  parse(name: string, text: string): void {
    this.#open(code.parse, name.length + Buffer.byteLength(text) + 4);
    this.#string(name);
    this.#string(text);
    this.#int16(0);
    this.#finish();
  }

  /** Binds to the unnamed portal, and asks for results as text. */
  bind(name: string, parameters: readonly Parameter[]): void {
    const sizes = parameters.map(sizeOf);
    const bytes = sizes.reduce((sum, size) => sum + size + 2 + lengthBytes, 0);
    this.#open(code.bind, name.length + bytes + 8);
    this.#string('');
    this.#string(name);
    this.#int16(parameters.length);
    for (const parameter of parameters) this.#int16(isBinary(parameter) ? 1 : 0);
    this.#int16(parameters.length);
    parameters.forEach((parameter, index) => {
      this.#parameter(parameter, sizes[index]!);
    });
    this.#int16(0);
    this.#finish();
  }

  execute(): void {
    this.#open(code.execute, 1 + 4);
    this.#string('');
    this.#int32(0);
    this.#finish();
  }

  /** Drops a prepared statement; the server sends no error if there is none. */
  close(name: string): void {
    this.#open(code.close, name.length + 2);
    this.#buffer[this.#at++] = statementKind;
    this.#string(name);
    this.#finish();
  }

  sync(): void {
    this.#open(code.sync, 0);
    this.#finish();
  }

  #open(type: number, bodyBytes: number): void {
    const needed = this.#at + headerBytes + bodyBytes;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, 2 * this.#buffer.length));
      this.#buffer.copy(grown, 0, 0, this.#at);
      this.#buffer = grown;
    }
    this.#buffer[this.#at] = type;
    this.#messageAt = this.#at;
    this.#at += headerBytes;
  }

  #finish(): void {
    this.#buffer.writeInt32BE(this.#at - this.#messageAt - 1, this.#messageAt + 1);
  }

  #parameter(parameter: Parameter, size: number): void {
    this.#int32(parameter === null ? -1 : size);
    if (parameter === null) return;
    if (isBinary(parameter)) parameter.writeTo(this.#buffer, this.#at);
    else this.#buffer.write(String(parameter), this.#at);
    this.#at += size;
  }

  #string(text: string): void {
    this.#at += this.#buffer.write(text, this.#at);
    this.#buffer[this.#at++] = 0;
  }

  #int16(value: number): void {
    this.#at = this.#buffer.writeInt16BE(value, this.#at);
  }

  #int32(value: number): void {
    this.#at = this.#buffer.writeInt32BE(value, this.#at);
  }
}

function isBinary(parameter: Parameter): parameter is BinaryValue {
  return typeof parameter === 'object' && parameter !== null;
}

function sizeOf(parameter: Parameter): number {
  if (parameter === null) return 0;
  return isBinary(parameter) ? parameter.byteLength : Buffer.byteLength(String(parameter));
}
