// The linter's rules, and the layer rule of docs/architecture.md: imports point downwards only, and
// the folders of one layer do not know one another.
import eslint from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

const layers = [
  ['base'],
  ['format', 'crypto', 'erasure'],
  ['store'],
  ['volume'],
  ['nbd', 'sync', 'repair'],
  ['cli'],
];

/** For each folder of src/: every folder beside it or above it is closed to its imports. */
const layerRules = layers.flatMap((layer, depth) =>
  layer.map((folder) => {
    const closed = [
      ...layers.slice(depth + 1).flat(),
      ...layer.filter((other) => other !== folder),
    ];
    return {
      files: [`src/${folder}/**/*.ts`],
      rules: {
        'no-restricted-imports': [
          'error',
          {
            patterns: closed.length
              ? [
                  {
                    group: closed.map((other) => `**/${other}/**`),
                    message: `src/${folder} may only import from the layers below it.`,
                  },
                ]
              : [],
          },
        ],
      },
    };
  }),
);

/** The outside world is reached through src/base alone, so that a simulator can stand in for it. */
const outsideWorld = {
  files: ['src/{format,crypto,erasure,store,volume,repair}/**/*.ts'],
  rules: {
    'no-restricted-globals': [
      'error',
      { name: 'Date', message: 'Take a Clock from src/base.' },
      { name: 'setTimeout', message: 'Take a Clock from src/base.' },
      { name: 'setInterval', message: 'Take a Clock from src/base.' },
    ],
    'no-restricted-properties': [
      'error',
      { object: 'Math', property: 'random', message: 'Take a Randomness from src/base.' },
    ],
    '@typescript-eslint/no-restricted-imports': [
      'error',
      {
        paths: ['fs', 'node:fs', 'node:fs/promises', 'fs/promises'].map((name) => ({
          name,
          message: 'Take a Files from src/base.',
        })),
      },
    ],
  },
};

export default defineConfig(
  { ignores: ['dist', 'dist-bench', 'wasm/build', 'wasm/*.ts', 'coverage', 'node_modules'] },
  eslint.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: 'only-allowed-literals' },
      ],
      '@typescript-eslint/no-non-null-assertion': 'off',
      'max-lines-per-function': ['error', { max: 70, skipBlankLines: true, skipComments: true }],
    },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: { 'max-lines-per-function': 'off' },
  },
  {
    files: ['**/*.{js,mjs}'],
    languageOptions: {
      globals: {
        process: 'readonly',
        console: 'readonly',
        Buffer: 'readonly',
        URL: 'readonly',
        setTimeout: 'readonly',
      },
    },
  },
  ...layerRules,
  outsideWorld,
);
