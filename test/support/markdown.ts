/** A fenced block of a Markdown text. */
export interface CodeBlock {
  readonly language: string;
  readonly text: string;
}

export function codeBlocks(markdown: string): CodeBlock[] {
  const fenced = /^```(\w*)\n(.*?)^```$/gms;
  return [...markdown.matchAll(fenced)].map(([, language = '', text = '']) => ({ language, text }));
}

/** What stands between single backticks, outside of blocks. */
export function inlineCode(markdown: string): string[] {
  const prose = markdown.replaceAll(/^```.*?^```$/gms, '');
  return [...prose.matchAll(/`([^`]+)`/g)].map((match) => match[1]!.replaceAll(/\s+/g, ' '));
}

/**
 * The commands of a shell block, each whole, as a reader would paste it; comments at the end of a
 * line are cut off.
 */
export function shellCommands(block: string): string[] {
  const commands: string[] = [];
  let open = '';
  for (const line of block.split('\n')) {
    open += open === '' ? line : `\n${line}`;
    const insideQuotes = (open.match(/'/g)?.length ?? 0) % 2 === 1;
    if (open.endsWith('\\') || insideQuotes) continue;
    const command = open.replace(/\s+# .*$/, '').trim();
    if (command !== '' && !command.startsWith('#')) commands.push(command);
    open = '';
  }
  if (open !== '') throw new Error(`this command has no end: ${open}`);
  return commands;
}
