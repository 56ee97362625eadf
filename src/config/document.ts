/** `npm run generate` writes docs/configuration.md and docs/memory.md. A test finds a stale one. */
import { writeFileSync } from 'node:fs';
import { memoryDocument } from '../account/memory-document.ts';
import { configurationDocument } from './help.ts';

writeFileSync(new URL('../../docs/configuration.md', import.meta.url), configurationDocument());
writeFileSync(new URL('../../docs/memory.md', import.meta.url), memoryDocument());
