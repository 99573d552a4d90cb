-- From the document as people read it in Markdown to its parts, the same for every format: the first
-- heading is the title, the paragraph below it the subtitle, "Abstract" the abstract. What has a number
-- becomes a Div that carries it (attribute "number"), of class equation, figure, table or reference;
-- its caption, without "Figure 1.", is the Div of class caption inside. `equations.lua` and `tables.lua` fit these to a page.

local stringify = pandoc.utils.stringify

local function anchor_of(block)
  if (block.t ~= "Para" and block.t ~= "Plain") or #block.content == 0 then return nil end
  local first = block.content[1]
  if first.t ~= "RawInline" or first.format ~= "html" then return nil end
  return first.text:match('^<a id="([%w_:.-]+)">$')
end

local function without_anchor(block)
  local words = block.content:clone()
  words:remove(1)
  if words[1] and words[1].t == "RawInline" and words[1].text == "</a>" then words:remove(1) end
  return words
end

-- Kind, number and words of the paragraph "<a id="fig-1"></a>*Figure 1. Words.*"
local function caption_of(block)
  local kind, number = (anchor_of(block) or ""):match("^(%a+)-(%d+)$")
  if kind ~= "fig" and kind ~= "tab" then return nil end
  local words = without_anchor(block)
  if #words ~= 1 or words[1].t ~= "Emph" then return nil end
  words = words[1].content:clone()
  for _ = 1, 4 do words:remove(1) end -- "Figure", space, "1.", space.
  return kind, number, words
end

local function numbered(class, id, number, blocks)
  return pandoc.Div(blocks, pandoc.Attr(id, { class }, { number = number }))
end

local function with_caption(class, id, number, words, block)
  local caption = pandoc.Div({ pandoc.Plain(words) }, pandoc.Attr("", { "caption" }))
  return numbered(class, id, number, { caption, block })
end

-- A Div for an equation that has a number.
local function equation(block)
  if block.t ~= "Para" or #block.content ~= 1 then return nil end
  local math = block.content[1]
  if math.t ~= "Math" or math.mathtype ~= "DisplayMath" then return nil end
  local number = math.text:match("\\tag{(%d+)}")
  if not number then return nil end
  local tex = math.text:gsub("%s*\\tag{%d+}%s*", ""):gsub("^%s+", "")
  return numbered("equation", "eq-" .. number, number, { pandoc.Para { pandoc.Math("DisplayMath", tex) } })
end

local function is_image(block)
  return block.t == "Para" and #block.content == 1 and block.content[1].t == "Image"
end

-- What may stand above the caption of a figure: its image, or the box that says why there is none.
local function is_shown(block)
  return is_image(block) or block.t == "BlockQuote"
end

-- What may stand below the caption of a table: itself, a list in its place, or the box that says why there is none.
local TABULAR = { Table = true, BulletList = true, BlockQuote = true }

local function joined(blocks)
  local out = pandoc.List()
  local place = 1
  while place <= #blocks do
    local block, after = blocks[place], blocks[place + 1]
    local kind, number, words = caption_of(block)
    local next_kind, next_number, next_words = nil, nil, nil
    if after then next_kind, next_number, next_words = caption_of(after) end
    if next_kind == "fig" and is_shown(block) then
      out:insert(with_caption("figure", "fig-" .. next_number, next_number, next_words, block))
      place = place + 2
    elseif kind == "tab" and after and TABULAR[after.t] then
      out:insert(with_caption("table", "tab-" .. number, number, words, after))
      place = place + 2
    else
      local id = anchor_of(block)
      local formula = equation(block)
      if formula then
        out:insert(formula)
      elseif id and #without_anchor(block) > 0 then
        local class = id:match("^ref%-") and "reference" or "anchored"
        out:insert(pandoc.Div({ pandoc.Para(without_anchor(block)) }, pandoc.Attr(id, { class })))
      elseif not id or not (after and equation(after)) then
        out:insert(id and pandoc.Div({}, pandoc.Attr(id)) or block)
      end
      place = place + 1
    end
  end
  return out
end

-- Number in front of a heading ("2.", "2.1", "Appendix A.") as an attribute; the words stay as they are.
local function heading(block)
  local text = stringify(block.content)
  local number = text:match("^(%d+)%. ") or text:match("^(%d[%d.]*%d) ")
  local appendix = text:match("^Appendix (%u)%. ") or text:match("^(%u%.%d+) ")
  block.attributes.number = number or appendix
  if appendix then block.classes:insert("appendix") end
  block.level = math.max(1, block.level - 1)
  return block
end

-- In print a moving picture is the strip of its frames.
local function still(image)
  local strip = image.src:gsub("%.gif$", "_strip.svg")
  if FORMAT == "html" or strip == image.src then return image end
  local file = io.open(strip, "rb")
  if not file then return image end
  file:close()
  image.src = strip
  return image
end

-- The title, the subtitle and the abstract become metadata, the rest is the body.
local function parted(doc)
  local body, abstract = pandoc.List(), pandoc.List()
  local place, inside = 1, false
  local blocks = doc.blocks
  if blocks[1] and blocks[1].t == "Header" and blocks[1].level == 1 then
    doc.meta.title = pandoc.MetaInlines(blocks[1].content)
    doc.meta.plaintitle = pandoc.MetaString(stringify(blocks[1].content))
    place = 2
    if blocks[2] and blocks[2].t == "Para" then
      doc.meta.subtitle = pandoc.MetaInlines(blocks[2].content)
      place = 3
    end
  end
  for index = place, #blocks do
    local block = blocks[index]
    if block.t == "Header" then
      inside = stringify(block.content) == "Abstract"
      if not inside then body:insert(heading(block)) end
    else
      (inside and abstract or body):insert(block)
    end
  end
  if #abstract > 0 then doc.meta.abstract = pandoc.MetaBlocks(abstract) end
  doc.blocks = body
  return doc
end

function Pandoc(doc)
  doc.blocks = joined(doc.blocks)
  doc = parted(doc)
  return doc:walk { Image = still }
end
