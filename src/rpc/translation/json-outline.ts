const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const openList = 0x5b;
const backslash = 0x5c;
const closeList = 0x5d;
const openObject = 0x7b;
const closeObject = 0x7d;

/** A part of a JSON text, in bytes; `end` is the first byte behind it. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface JsonMember extends Span {
  readonly name: string;
}

/** The whole text without the space around it. */
export function spanOf(json: Buffer): Span {
  const outline = new Outline(json, { start: 0, end: json.length });
  outline.skipSpace();
  const start = outline.at;
  let end = json.length;
  while (end > start && isSpace(json[end - 1])) end -= 1;
  return { start, end };
}

/**
 * The members of the object that the span is, in their order. The syntax within their values is not
 * checked.
 * @throws Error also for more than `membersMax` members, before the others are looked at.
 */
export function membersOf(json: Buffer, span: Span, membersMax: number): JsonMember[] {
  const outline = new Outline(json, span);
  const members: JsonMember[] = [];
  outline.entries(openObject, closeObject, () => {
    if (members.length === membersMax) throw new Error(`an object has more than ${membersMax} members`);
    const name = outline.name();
    outline.expect(colon);
    members.push({ name, ...outline.value() });
  });
  return members;
}

/**
 * The elements of the list that the span is: the start of the first one, its end, the start of the
 * second one, and so on.
 * @throws Error
 */
export function elementsOf(json: Buffer, span: Span): number[] {
  const outline = new Outline(json, span);
  const elements: number[] = [];
  outline.entries(openList, closeList, () => {
    const { start, end } = outline.value();
    elements.push(start, end);
  });
  return elements;
}

export function isObject(json: Buffer, { start }: Span): boolean {
  return json[start] === openObject;
}

export function isList(json: Buffer, { start }: Span): boolean {
  return json[start] === openList;
}

/** Reads the structure of one level, and passes over everything below it. */
class Outline {
  at: number;
  readonly #json: Buffer;
  readonly #end: number;

  constructor(json: Buffer, { start, end }: Span) {
    this.#json = json;
    this.at = start;
    this.#end = end;
  }

  skipSpace(): void {
    while (this.at < this.#end && isSpace(this.#json[this.at])) this.at += 1;
  }

  expect(byte: number): void {
    if (!this.#takes(byte)) this.#fail();
  }

  entries(open: number, close: number, entry: () => void): void {
    this.expect(open);
    if (!this.#takes(close)) {
      do entry();
      while (this.#takes(comma));
      this.expect(close);
    }
    this.skipSpace();
    if (this.at !== this.#end) this.#fail();
  }

  name(): string {
    this.skipSpace();
    const start = this.at;
    if (this.#json[start] !== quote) this.#fail();
    this.#text();
    return JSON.parse(this.#json.toString('utf8', start, this.at)) as string;
  }

  value(): Span {
    this.skipSpace();
    const start = this.at;
    const first = this.#json[start];
    if (first === quote) this.#text();
    else if (first === openObject || first === openList) this.#container();
    else this.#word();
    if (this.at === start || this.at > this.#end) this.#fail();
    return { start, end: this.at };
  }

  #takes(byte: number): boolean {
    this.skipSpace();
    if (this.at >= this.#end || this.#json[this.at] !== byte) return false;
    this.at += 1;
    return true;
  }

  #text(): void {
    let at = this.at + 1;
    for (let byte = this.#json[at]; byte !== quote && at < this.#end; byte = this.#json[at])
      at += byte === backslash ? 2 : 1;
    this.at = at + 1;
  }

  #container(): void {
    let depth = 0;
    do {
      const byte = this.#json[this.at];
      if (byte === quote) this.#text();
      else {
        if (byte === openObject || byte === openList) depth += 1;
        else if (byte === closeObject || byte === closeList) depth -= 1;
        this.at += 1;
      }
    } while (depth > 0 && this.at < this.#end);
    if (depth > 0) this.#fail();
  }

  /** A number, true, false or null. */
  #word(): void {
    while (this.at < this.#end && !isDelimiter(this.#json[this.at])) this.at += 1;
  }

  #fail(): never {
    throw new Error(`unexpected end or character at its byte ${this.at}`);
  }
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

function isDelimiter(byte: number | undefined): boolean {
  return byte === comma || byte === colon || byte === closeList || byte === closeObject || isSpace(byte);
}
