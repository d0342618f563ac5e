"""How the app's widgets and tables look, as one style sheet."""

from explorer.figures import theme

BUSY = "explorer-busy"  # the class of an app that has more to draw
_RULES = """
.explorer-app {padding: 2px 4px 8px 0; max-width: 1880px; width: 100%;
  container-type: inline-size;}
.explorer-app .explorer-grid {grid-gap: 4px 10px; overflow: visible;}
.explorer-app .explorer-grid + .explorer-grid {margin-top: 4px;}
.explorer-app .explorer-field {flex-direction: column; align-items: stretch; height: auto;
  width: auto; margin: 0; min-width: 0;}
.explorer-app .explorer-field > .widget-label {width: auto; text-align: left; font-size: 11px;
  line-height: 15px; height: 15px; color: var(--jp-ui-font-color2);}
.explorer-app .explorer-field > .widget-label > span {display: block;}
.explorer-app .explorer-field > select, .explorer-app .explorer-field > input {
  width: 100%; box-sizing: border-box; flex: 0 0 26px; height: 26px; font-size: 12px;}
.explorer-app .explorer-field.widget-hslider {display: grid; align-content: start;
  grid-template-columns: 1fr 34px;}
.explorer-app .explorer-field.widget-hslider > .widget-label {grid-column: 1 / 3;}
.explorer-app .explorer-field.widget-hslider > .slider-container {margin: 5px 4px 0 8px;}
.explorer-app .explorer-field.widget-hslider > .widget-readout {min-width: 0; margin: 0;
  text-align: right; font-size: 12px; height: 18px; line-height: 18px;}
.explorer-app .widget-checkbox input {vertical-align: -2px;}
.explorer-app .explorer-row > .explorer-points {flex: 1 1 240px; min-width: 0; width: 0;
  max-width: 400px;}
.explorer-app .explorer-row {align-items: center; flex-wrap: wrap; overflow: visible;}
.explorer-app .explorer-more {align-self: end; height: 26px; line-height: 24px; width: auto;
  margin: 0; padding: 0 4px; font-size: 12px;}
.explorer-app .explorer-wide {grid-column: span 2;}
.explorer-app .explorer-brought > .widget-label {color: var(--jp-ui-font-color1);
  font-style: italic;}
.explorer-app .explorer-brought > .widget-label::after {content: " *";}
.explorer-app .explorer-own {display: grid; gap: 4px 28px; padding: 6px 0; overflow: visible;
  grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); align-items: start;}
.explorer-app .explorer-own > .explorer-column {gap: 4px; overflow: visible; min-width: 0;
  width: auto; margin: 0;}
.explorer-app .explorer-own button {align-self: start; margin: 0;}
.explorer-app .explorer-document > textarea {width: 100%; box-sizing: border-box;
  font-family: var(--jp-code-font-family, monospace); font-size: 12px; white-space: pre;
  resize: vertical;}
.explorer-app .explorer-past {gap: 4px; align-self: end; overflow: visible;}
.explorer-app .explorer-past > button {flex: 1 1 0; width: 0; min-width: 0; height: 26px;
  line-height: 24px; margin: 0; padding: 0; font-size: 12px;}
.explorer-app .explorer-run {flex: 1 1 220px; min-width: 0; margin: 0 4px 0 8px;}
.explorer-app .explorer-body {display: grid; gap: 4px 28px; overflow: visible;
  grid-template-columns: minmax(0, 1fr) minmax(0, 1fr);}
.explorer-app .explorer-body > * {margin: 0; overflow: visible; min-width: 0; width: auto;}
.explorer-app .explorer-body > * {grid-column: 1 / -1;}
.explorer-app .explorer-side {display: grid; gap: 4px 28px; align-items: start;
  align-content: start;
  grid-template-columns: minmax(0, 1fr) minmax(0, 1fr);}
.explorer-app .explorer-side > * {min-width: 0; width: auto; overflow: visible;}
.explorer-app {--explorer-ground: var(--jp-layout-color1);}
.jp-NotebookPanel .explorer-app {--explorer-ground: var(--jp-layout-color0);}
.explorer-app .explorer-below .widget-tab-contents {padding: 6px 0 0; border: 0;
  overflow: visible; background: transparent;}
.explorer-app .explorer-below .lm-TabBar-tab.lm-mod-current {
  background: var(--explorer-ground) !important;}
.explorer-app .explorer-below .lm-TabBar-tab, .explorer-app .explorer-below .p-TabBar-tab {
  flex: 0 1 auto !important; min-width: 0; padding: 0 8px; font-size: 12px;}
.explorer-app .explorer-plot {width: 100%; overflow: visible; margin: 0;}
.explorer-app .explorer-plot .jp-OutputArea-output {padding: 0; overflow: visible;}
.explorer-app .explorer-plot :is(.jp-OutputArea, .jp-OutputArea-child, .js-plotly-plot) {
  height: 100%;}
.explorer-app .explorer-plot .jp-OutputArea-prompt {display: none;}
.explorer-app .explorer-changes .explorer-row {gap: 0 4px; flex-wrap: nowrap;}
.explorer-app .explorer-changes .explorer-row > .explorer-text {flex: 1 1 0; min-width: 0;}
.explorer-app .explorer-changes .explorer-text .widget-html-content {line-height: 16px;}
.explorer-app .explorer-changes button {flex: 0 0 auto; height: 24px; line-height: 22px;
  padding: 0 6px; margin: 1px 2px; font-size: 12px;}
.explorer-app :is(.explorer-main, .explorer-rest, .explorer-question) {overflow: visible;}
@container (max-width: 640px) {
  .explorer-app :is(.explorer-body, .explorer-side, .explorer-own) {
    grid-template-columns: minmax(0, 1fr);}
}
@container (min-width: 1150px) {
  .explorer-app .explorer-body {grid-template-columns: minmax(0, 1fr) 400px;
    grid-template-rows: auto 1fr;}
  .explorer-app .explorer-panels, .explorer-app .explorer-below {grid-column: 1;}
  .explorer-app .explorer-side {grid-column: 2; grid-row: 1 / span 2;
    grid-template-columns: minmax(0, 1fr);}
}
@container (min-width: 1380px) {
  .explorer-app .explorer-main {display: grid; gap: 4px 24px; align-items: start;
    grid-template-columns: 176px minmax(0, 1fr); grid-template-rows: auto 1fr;}
  .explorer-app .explorer-main > * {grid-column: 2; min-width: 0; width: auto; margin: 0;}
  .explorer-app .explorer-main > .explorer-question {grid-column: 1; grid-row: 1 / span 2;}
}
.explorer-app :is(select, input, textarea, button, .noUi-handle, .widget-readout,
  .lm-TabBar-tab):focus-visible {outline: 2px solid var(--jp-brand-color1, #1976D2) !important;
  outline-offset: 1px;}
.explorer-busy {cursor: progress;}
.jp-OutputArea-child:has(> .jp-OutputArea-output > .explorer-app) {display: flex;}
.jp-OutputArea-child > .jp-OutputArea-output:has(> .explorer-app) {display: block;
  flex: 1 1 0; min-width: 0;}
.explorer-gone {display: none;}
.explorer-app .jupyter-widgets-disconnected::before {display: none;}
.explorer-gone.jupyter-widgets-disconnected {display: block; height: auto;}
.jp-OutputArea-child:has(.explorer-app) ~ .jp-OutputArea-child:has(.explorer-standing),
.jp-OutputArea-child:not(:has(.explorer-app)):has(+ .jp-OutputArea-child .explorer-standing) {
  display: none;}
.explorer-standing .explorer-html :is(td:not(.number), th) {text-align: left;}
.explorer-standing .explorer-html tbody tr:nth-child(n) {background: none;}
.explorer-standing p {margin: 0;}
[data-jp-theme-light="false"] .explorer-standing > img {mix-blend-mode: screen;
  filter: invert(1) hue-rotate(180deg) brightness(1.2);}
.explorer-text, .explorer-text .widget-html-content {line-height: 1.4; font-size: 12px;}
.explorer-error {color: #A33B00; font-size: 12px; line-height: 1.4; font-weight: 600;}
.explorer-html {font-size: 11.5px; line-height: 17px;}
.explorer-details {display: grid; gap: 4px 28px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr));}
.explorer-html h4 {margin: 4px 0 3px; font-size: 12px; font-weight: 600;}
.explorer-html table {border-collapse: collapse; width: 100%; font-size: 11.5px;
  line-height: 16px; table-layout: auto;}
.explorer-html table.numbers {width: auto;}
.explorer-html :is(td, th) {padding: 1px 6px 1px 0; text-align: left;
  border: 0; white-space: nowrap; font-weight: normal; color: var(--jp-ui-font-color1);
  background: transparent;}
.explorer-details th {color: var(--jp-ui-font-color2); position: sticky; top: 0;
  background: var(--explorer-ground, var(--jp-layout-color1));}
.explorer-details .scroll table {table-layout: fixed; min-width: 380px;}
.explorer-details td.layer {overflow: hidden; text-overflow: ellipsis;}
.explorer-html td.number {text-align: right; font-variant-numeric: tabular-nums;}
.explorer-empty {padding: 14px 0; color: var(--jp-ui-font-color2); font-size: 12px;}
.explorer-compare table {width: auto; min-width: 60%;}
.explorer-compare :is(th[scope="col"], td) {padding-right: 22px; vertical-align: top;
  white-space: normal; max-width: 210px;}
.explorer-compare th[scope="col"] {font-weight: 600; overflow-wrap: anywhere;}
.explorer-compare th[scope="row"] {color: var(--jp-ui-font-color2); vertical-align: top;}
.explorer-compare td.differs {font-weight: 600;}
.explorer-html .note {color: var(--jp-ui-font-color2); padding-top: 4px;}
.explorer-evidence td {vertical-align: top; border-top: 1px solid var(--jp-layout-color2);}
.explorer-evidence td.source {white-space: normal; min-width: 260px;}
.explorer-published td {white-space: normal; padding-right: 14px;}
.explorer-evidence ul {margin: 0; padding-left: 14px;}
.explorer-details .scroll {max-height: 268px; overflow-y: auto;}
.explorer-details .track {display: flex; height: 9px; width: 100%; overflow: hidden;
  background: var(--jp-layout-color2);}
.explorer-details .track i {display: block; height: 9px;}
.explorer-answer .levels {display: grid; grid-template-columns: auto 1fr auto;
  align-items: center; column-gap: 8px;}
.explorer-answer .levels small {grid-column: 1 / -1;}
.explorer-answer .bar {position: relative; height: 9px;
  background: var(--jp-layout-color2);}
.explorer-answer .bar .need {position: absolute; height: 9px;}
.explorer-answer .bar .limit {position: absolute; top: -2px; height: 13px; width: 2px;
  margin-left: -2px; background: var(--jp-ui-font-color1);}
.explorer-answer .fits .need {background: #009E73;}
.explorer-answer .misfit .need {background: #D55E00;}
.explorer-answer b.fits {color: #00664B;}
.explorer-answer b.misfit, .explorer-answer .warning {color: #A33B00;
  font-weight: 600;}
[data-jp-theme-light="false"] .explorer-answer b.fits {color: #4FC9A4;}
[data-jp-theme-light="false"] .explorer-answer b.misfit,
[data-jp-theme-light="false"] .explorer-answer .warning,
[data-jp-theme-light="false"] .explorer-error {color: #FF9A5C;}
.explorer-answer .warning::before {content: "⚠ ";}
.explorer-answer .note {color: var(--jp-ui-font-color2);}
.explorer-details .frozen td {opacity: 0.55;}
.explorer-html small {font-weight: normal; font-size: 10.5px;}
.explorer-details .keys {margin-left: -10px; font-size: 10.5px;}
.explorer-details .key {display: inline-block; width: 9px; height: 9px; margin: 0 3px 0 10px;}
"""
_DARK_FIGURE = '[data-jp-theme-light="false"] .explorer-app .js-plotly-plot'
STYLE = f"<style>{_RULES}{theme.dark_rules(_DARK_FIGURE)}</style>"
