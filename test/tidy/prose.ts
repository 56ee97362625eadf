/** A comment that stands on lines of its own. */
export interface CommentBlock {
  /** The number of its first line. */
  readonly line: number;
  /** Its lines as they are in the file. */
  readonly lines: readonly string[];
  /** Its lines of text, without marks, tags such as `@throws`, and blank lines. */
  readonly words: readonly string[];
  /** Whether the next line of code begins a function or a method. */
  readonly atFunction: boolean;
}

export interface Line {
  readonly line: number;
  readonly text: string;
}

const functionStart =
  /^\s*(export )?(default )?(async )?function\b|^\s*(export )?const \w+ = (async )?(\([^;]*|<\w.*|\w+) =>|^\s+(static |async |get |set )*#?\w+(<[^>]*>)?\([^;]*(\{|,|\()$/;

/** All comments of a TypeScript or proto file that stand on lines of their own. */
export function commentBlocks(source: string): CommentBlock[] {
  const lines = source.split('\n');
  const blocks: CommentBlock[] = [];
  for (let at = 0; at < lines.length; at++) {
    const end = endOfComment(lines, at);
    if (end === at) continue;
    const block = lines.slice(at, end);
    blocks.push({
      line: at + 1,
      lines: block,
      words: wordsOf(block),
      atFunction: functionStart.test(lines[end] ?? '') && !/^\s*(if|for|while|switch|return)\b/.test(lines[end] ?? ''),
    });
    at = end - 1;
  }
  return blocks;
}

/** The line after the comment that begins at `at`; `at` if none does. */
function endOfComment(lines: readonly string[], at: number): number {
  let end = at;
  if (/^\s*\/\*/.test(lines[at]!)) {
    while (!lines[end]!.includes('*/')) end++;
    return end + 1;
  }
  while (/^\s*\/\//.test(lines[end] ?? '')) end++;
  return end;
}

function wordsOf(block: readonly string[]): string[] {
  const words = block.map((line) =>
    line
      .replace(/^\s*(\/\*\*?|\*\/|\*|\/\/)\s?/, '')
      .replace(/\s*\*\/$/, '')
      .trim(),
  );
  const tag = words.findIndex((text) => text.startsWith('@'));
  return (tag < 0 ? words : words.slice(0, tag)).filter((text) => text !== '');
}

/** The lines of a Markdown text that are neither code nor table. */
export function proseLines(markdown: string): Line[] {
  let inCode = false;
  return markdown.split('\n').flatMap((text, index) => {
    if (/^\s*```/.test(text)) inCode = !inCode;
    return inCode || /^\s*(```|\||#)/.test(text) ? [] : [{ line: index + 1, text }];
  });
}

/** The names of all tests in a file, with the line that they stand on. */
export function testNames(source: string): { readonly line: number; readonly name: string }[] {
  const named = /\b(?:test|it)(?:\.\w+(?:<[^>]*>)?(?:\([^)]*\))?)*\(\s*(['"`])(.*?)\1,/gs;
  const each = /\]\)\(\s*(['"`])(.*?)\1,/gs;
  return [named, each].flatMap((pattern) =>
    [...source.matchAll(pattern)].map((found) => ({
      line: source.slice(0, found.index).split('\n').length,
      name: found[2]!,
    })),
  );
}
