-- From the parts of a document (filter.lua) to typst. Numbers are given, not counted, so that they are
-- those of the Markdown wherever a figure floats to.

local function raw(text) return pandoc.RawBlock("typst", text) end

local function source(blocks)
  local text = pandoc.write(pandoc.Pandoc(blocks), "typst", { wrap_text = "none" })
  return (text:gsub("%s+$", ""))
end

local function quoted(text)
  return '"' .. text:gsub('[\\"]', "\\%0") .. '"'
end

local ALIGN = { AlignLeft = "left", AlignRight = "right", AlignCenter = "center", AlignDefault = "auto" }

local function cells(row)
  local texts = pandoc.List(row.cells):map(function(cell) return "[" .. source(cell.contents) .. "]" end)
  return table.concat(texts, ", ")
end

local function grid(block)
  local widths = pandoc.List(block.colspecs):map(function(spec)
    return spec[2] and string.format("%.2f%%", 100 * spec[2]) or "auto"
  end)
  local aligns = pandoc.List(block.colspecs):map(function(spec) return ALIGN[spec[1]] end)
  local lines = pandoc.List {
    string.format("#text(size: %sem)[#table(", block.attributes.size or "1"),
    "columns: (" .. table.concat(widths, ", ") .. ",), align: (" .. table.concat(aligns, ", ") .. ",),",
  }
  for _, row in ipairs(block.head.rows) do lines:insert("table.header(" .. cells(row) .. "), table.hline(),") end
  for _, body in ipairs(block.bodies) do
    for _, row in ipairs(body.body) do lines:insert(cells(row) .. ",") end
  end
  lines:insert(")]")
  return table.concat(lines, "\n")
end

local function picture(image)
  local alt = pandoc.utils.stringify(image.caption)
  return string.format("#picture(%s, alt: %s)", quoted(image.src), quoted(alt))
end

-- Width of a drawing in points, as its file says; nil for other files.
local function width_of(block)
  local image = block.t == "Para" and block.content[1]
  local file = image and image.t == "Image" and image.src:match("%.svg$") and io.open(image.src, "rb")
  if not file then return nil end
  local head = file:read(2000) or ""
  file:close()
  return tonumber(head:match('<svg[^>]-width="([%d.]+)pt"'))
end

local function shown_as(block)
  return block.t == "Table" and raw(grid(block)) or block
end

local function captioned(div, kind, word, options)
  local caption, shown = div.content[1], div.content[2]
  return pandoc.List {
    raw(string.format('#figure(kind: %s, supplement: [%s], numbering: _ => "%s", %scaption: [',
      kind, word, div.attributes.number, options)),
    caption.content[1],
    raw("])["),
    shown.t == "BulletList" and pandoc.Div { raw("#set align(left)"), shown } or shown_as(shown),
    raw("] <" .. div.identifier .. ">"),
  }
end

-- What a column has no room for floats over all of them.
local function floating(twocolumn, wide)
  return string.format('placement: auto, scope: "%s", ', twocolumn and wide and "parent" or "column")
end

local function figure(div, twocolumn)
  local boxed, width = div.content[2].t == "BlockQuote", width_of(div.content[2])
  if boxed then return captioned(div, "image", "Figure", "") end
  return captioned(div, "image", "Figure", floating(twocolumn, not width or width > 300))
end

local appendix = false

local function tabular(div, twocolumn)
  local classes = div.content[2].classes or pandoc.List()
  local long, wide = classes:includes("long") or div.content[2].t == "BulletList", classes:includes("wide")
  local floats = not long and not appendix and div.content[2].t == "Table"
  local options = floats and floating(twocolumn, wide) or ""
  local blocks = captioned(div, "table", "Table", options)
  if long then
    -- What is both long and wide neither floats nor fits a column: it gets pages of its own.
    blocks:insert(1, raw(twocolumn and wide and "#page(columns: 1)[#long[" or "#long["))
    blocks:insert(raw(twocolumn and wide and "]]" or "]"))
  end
  return blocks
end

local function equation(div)
  local forms = div.content:map(function(form) return "[" .. source { form } .. "]" end)
  return raw(string.format('#equation("%s", %s) <%s>', div.attributes.number, table.concat(forms, ", "), div.identifier))
end

local function entry(div)
  return { raw("#entry["), div.content[1], raw("] <" .. div.identifier .. ">") }
end

local PARTS = { figure = figure, table = tabular, equation = equation, reference = entry }

function Pandoc(doc)
  local twocolumn = doc.meta.twocolumn ~= nil
  local function part(block)
    if block.t == "Header" and not appendix and block.classes:includes("appendix") then
      appendix = true -- For long tables, in small type.
      local begin = twocolumn and "#set page(columns: 1)\n" or ""
      twocolumn = false
      return { raw(begin .. "#set text(size: 0.9em)"), block }
    end
    if block.t == "Table" then return raw(grid(block)) end
    local made = block.t == "Div" and PARTS[block.classes[1]]
    return made and made(block, twocolumn) or nil
  end
  doc.blocks = doc.blocks:walk { traverse = "topdown", Block = part }
  return doc:walk { Image = function(image) return pandoc.RawInline("typst", picture(image)) end }
end
